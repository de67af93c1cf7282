"""What the commands of the command line do: one file each, whose `run` takes the settings."""
