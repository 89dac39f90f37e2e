"""A stand-in for the Anti-Captcha API on loopback, with years of seeded spending behind it.

It is written from the vendor's documentation alone and shares no code with the program it stands in front of.
"""
