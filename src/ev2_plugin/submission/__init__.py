"""EvalAI submissions for OC20 and OC22: built from prediction files, and checked before they are uploaded."""
