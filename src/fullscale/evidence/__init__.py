"""Evidence that travels with a model: a folder that an auditor can check, with fullscale or without it."""
