"""The programs in examples/, each as a person would use it."""
