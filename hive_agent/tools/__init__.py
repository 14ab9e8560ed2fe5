"""The MCP server that offers the hive's tools to an agent CLI."""
