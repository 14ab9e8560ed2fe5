# The predicate allows another package than the one that is wanted.
{ lib, pkgs, ... }:

{
  nixpkgs.config.allowUnfreePredicate = package: lib.getName package == "terraform";
  hyperhive.packages = [ pkgs.vault ];
}
