# Inside of nixpkgs.config there are no priorities.
{ lib, pkgs, ... }:

{
  nixpkgs.config.allowUnfreePredicate = lib.mkForce (package: lib.getName package == "vault");
  hyperhive.packages = [ pkgs.vault ];
}
