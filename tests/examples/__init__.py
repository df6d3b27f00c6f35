"""The programs in examples/, run by their command lines."""
