"""Floor 6: frozen Settings from TOML, environment and argv; the only reader of the environment."""

from relay.settings.load import load_settings
from relay.settings.model import Settings

__all__ = ["Settings", "load_settings"]
