"""One contract, several fleets: where slots live."""
