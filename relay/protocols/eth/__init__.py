"""Pure eth wire protocol: versions as data, message codecs."""
