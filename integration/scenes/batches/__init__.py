"""The scene of batches (`scene`), its model (`network`), who calls it (`clients`) and its picture (`plot`)."""
