"""Anti-Captcha spending history in a local warehouse. The rooms and the way of one record: README, "Architecture"."""

__version__ = "0.1.0"
