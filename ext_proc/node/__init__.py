"""The node role: the model cache of this machine before calls, for operators and for edges."""
