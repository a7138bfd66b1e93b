"""`tbms plan`: measures batches on a model server, and tells what they leave to choose."""
