"""A local stand-in for the Anti-Captcha API with synthetic spending.

Written from the vendor's documentation; shares no code with the ETL, so that a mistake in one does not hide in the
other.
"""
