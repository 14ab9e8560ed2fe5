{ lib, pkgs, ... }:

let
  notes = pkgs.callPackage ./notes/package.nix { };
in
{
  hyperhive.packages = [ notes ];
  systemd.services.notes = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      ExecStart = lib.getExe notes;
      User = "notes";
    };
  };
}
