# The CLI of each `backend` of agent.toml in a nixpkgs, and the names of those that are not free software.
{ pkgs }:
{
  programs = {
    claude = pkgs.claude-code;
    codex = pkgs.codex;
    gemini = pkgs.gemini-cli;
    opencode = pkgs.opencode;
  };
  unfree.claude = "claude-code";
}
