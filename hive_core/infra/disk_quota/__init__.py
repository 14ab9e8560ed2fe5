"""Disk quotas of directories: simple quotas of btrfs, project quotas of ext4 and xfs."""
