"""The mechanics of proposals that do not depend on the subject, which is an agent or a repository."""
