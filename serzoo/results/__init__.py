"""The ledger of reproduced results, each recomputed from its stored predictions."""
