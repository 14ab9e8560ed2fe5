# The nixpkgs that the daemon builds agents with: that of flake.lock, also where a `follows` has replaced it on the host.
{
  nixpkgs,
  locked,
  fetchTree ? builtins.fetchTree,
}:
if (nixpkgs.narHash or locked.narHash) == locked.narHash then nixpkgs else fetchTree locked
