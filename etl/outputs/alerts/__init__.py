"""Rules of the configuration file, evaluated over what is stored."""
