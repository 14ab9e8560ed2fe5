# What an agent can write is on mounts where no program is setuid and no file a device: root in a container makes files
# that are root's on the host, too.
{ config, lib, ... }:

let
  cfg = config.services.hyperhive;
  written = [
    cfg.stateDir
    "/var/lib/nixos-containers" # the root directories of containers
    "/nix/var/nix/profiles/per-container"
    "/nix/var/nix/gcroots/per-container"
  ];
  options = [
    "nosuid"
    "nodev"
  ];
  # One that is a file system of its own has a unit already, made from fileSystems.
  separate = lib.filter (directory: config.fileSystems ? ${directory}) written;
  unsafe = lib.filter (
    directory: lib.subtractLists config.fileSystems.${directory}.options options != [ ]
  ) separate;
in
{
  config = lib.mkIf cfg.enable {
    systemd.mounts = map (directory: {
      description = "${directory} without setuid programs and devices";
      what = directory;
      where = directory;
      type = "none";
      options = lib.concatStringsSep "," ([ "bind" ] ++ options);
      mountConfig.DirectoryMode = "0700";
      wantedBy = [ "local-fs.target" ];
    }) (lib.subtractLists separate written);

    systemd.services.hive-c0re.unitConfig.RequiresMountsFor = written;

    warnings = map (directory: ''
      services.hyperhive: agents can write to ${directory}, so setuid programs and devices there should have no effect.
      Add "nosuid" and "nodev" to fileSystems."${directory}".options.
    '') unsafe;
  };
}
