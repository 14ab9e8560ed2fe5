{ lib, pkgs, ... }:

{
  imports = [ ./more.nix ];
  nixpkgs.config.allowUnfreePredicate = package: lib.getName package == "terraform";
  hyperhive.unfreePackages = [ "vault" ];
  hyperhive.packages = [
    pkgs.terraform
    pkgs.vault
  ];
}
