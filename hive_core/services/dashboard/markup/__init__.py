"""HTML of texts of models, tools and agents: Markdown and highlighted code, made in a process of its own with limits.

The one place of the dashboard where a text of somebody else decides which elements there are.
"""
