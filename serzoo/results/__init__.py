"""The ledger of results: what was reproduced, computed anew from the predictions that are kept."""
