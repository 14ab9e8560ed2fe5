# Not free software either, and a predicate in the form of a function of pkgs.
{ pkgs, ... }:

{
  nixpkgs.config = _: { allowUnfreePredicate = package: package.pname == "nomad"; };
  environment.systemPackages = [ pkgs.nomad ];
}
