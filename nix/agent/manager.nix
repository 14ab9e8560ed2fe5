# What only the manager's container has: programs to review proposals with.
{ pkgs, ... }:

{
  environment.systemPackages = [
    pkgs.diffutils
    pkgs.ripgrep
    pkgs.tree
  ];
}
