"""How convolutions of networks are computed, never what: each has a plain twin in the tests."""
