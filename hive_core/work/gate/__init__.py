"""The gate for work: proposals of commits for a repository, from their submission to their landing."""
