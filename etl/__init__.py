"""Anti-Captcha spending history in a local warehouse. See docs/explanation/architecture.md."""

__version__ = "0.1.0"
