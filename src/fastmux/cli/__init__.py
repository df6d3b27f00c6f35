"""The command line and the start-up hook of its children. Nothing is imported here: the hook runs in every child."""
