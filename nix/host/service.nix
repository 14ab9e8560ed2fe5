# The daemon's unit. Containers are units of their own, in machine.slice: they go on when this one stops or restarts.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.hyperhive;
  usual = cfg.stateDir == "/var/lib/hyperhive";

  # As the NixOS module for containers has it: on its own the program would look in the directories of old releases.
  nixosContainer = pkgs.nixos-container.override {
    stateDirectory = "/var/lib/nixos-containers";
    configurationDirectory = "/etc/nixos-containers";
  };
in
{
  config = lib.mkIf cfg.enable {
    systemd.services.hive-c0re = {
      description = "hyperhive: coding agents in containers, and the gate for their changes";
      documentation = [ "https://github.com/hyperhive/hyperhive" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "nix-daemon.socket" ];
      after = [
        "dbus.socket"
        "network.target"
        "nix-daemon.socket"
        "systemd-tmpfiles-setup.service"
        "systemd-tmpfiles-resetup.service"
      ];
      # Restarted at once when it changes, instead of stopped first and started after everything else.
      stopIfChanged = false;

      path = [
        config.nix.package
        config.systemd.package
        nixosContainer
        pkgs.bubblewrap
        pkgs.coreutils
        pkgs.e2fsprogs # chattr, for which nixos-container looks here
        pkgs.git
        pkgs.openssh # repositories with ssh URLs
        pkgs.util-linux
      ];
      environment = {
        HOME = "/var/cache/hyperhive"; # Nix keeps what it fetched below it; /root is not shown
        NIX_REMOTE = "daemon"; # so /nix/store need not be writable here
      };

      unitConfig.RequiresMountsFor = [ cfg.stateDir ];
      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        # Makes the host's key, with which credentials are encrypted: the daemon could not write it itself.
        ExecStartPre = "-+${lib.getExe' config.systemd.package "systemd-creds"} setup";
        ExecStart = "${lib.getExe' cfg.package "hive-c0re"} serve --config ${cfg.configFile}";
        EnvironmentFile = cfg.environmentFiles;
        Restart = "always";
        RestartSec = 2;
        WatchdogSec = 60;
        TimeoutStartSec = 180; # a large database is checked before the sockets answer
        TimeoutStopSec = 60;
        KillMode = "mixed"; # the daemon ends what it has started itself
        OOMPolicy = "continue"; # or a git that is killed for want of memory would take the daemon with it

        # The ports of agents' pages, on which harnesses in containers go on to listen over a restart.
        FileDescriptorStoreMax = 4096;
        FileDescriptorStorePreserve = "yes";

        RuntimeDirectory = "hyperhive";
        RuntimeDirectoryMode = "0755";
        RuntimeDirectoryPreserve = "yes"; # its directories are bound into containers that go on running
        CacheDirectory = "hyperhive";
        CacheDirectoryMode = "0700";

        # Only what keeping containers takes. What it starts through systemd (containers, builds) is not bound by this.
        CapabilityBoundingSet = [
          "CAP_CHOWN" # directories of agents, whose owners user namespaces map
          "CAP_DAC_OVERRIDE"
          "CAP_DAC_READ_SEARCH"
          "CAP_FOWNER"
          "CAP_FSETID"
          "CAP_KILL" # nixos-container waits for a container's processes
          "CAP_LINUX_IMMUTABLE" # /var/empty of a container that is destroyed
          "CAP_SETFCAP" # bubblewrap, in which agents' repositories are read, maps root (user_namespaces(7))
          "CAP_SYS_ADMIN" # disk quotas; and to try at the start whether the state directory's file system has idmapped mounts
        ];
        NoNewPrivileges = true;
        ProtectSystem = "strict";
        ReadWritePaths = [
          "/etc/nixos-containers"
          "/nix/var/nix/gcroots"
          "/nix/var/nix/profiles"
          "/run/lock"
          "/run/systemd"
          "/var/lib/nixos-containers"
        ]
        ++ lib.optional (!usual) cfg.stateDir;
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectKernelModules = true;
        LockPersonality = true;
        RestrictRealtime = true;
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
        ];
        SystemCallArchitectures = "native";
        SystemCallErrorNumber = "EPERM";
        SystemCallFilter = [
          "~@clock"
          "~@cpu-emulation"
          "~@debug"
          "~@module"
          "~@obsolete"
          "~@raw-io"
          "~@reboot"
          "~@swap"
        ];
        # Left out, since bubblewrap could not set up a sandbox any more: RestrictNamespaces, what mounts something
        # over parts of /proc (ProtectKernelTunables, ProtectKernelLogs, ProtectHostname, ProtectProc), and
        # RestrictSUIDSGID, under which openat2(2) does not exist (bubblewrap since 0.12 calls it, see
        # https://github.com/containers/bubblewrap/issues/774). And MemoryDenyWriteExecute, since D-Bus callbacks are machine code that is made at run time.
      }
      // lib.optionalAttrs usual {
        StateDirectory = "hyperhive";
        StateDirectoryMode = "0700";
      };
    };

    # What the unit may write has to be there before it starts.
    systemd.tmpfiles.rules = [
      "d /etc/nixos-containers 0755 root root -"
      "d /var/lib/nixos-containers 0700 root root -"
      "d /nix/var/nix/profiles/per-container 0700 root root -"
      "d /nix/var/nix/gcroots/per-container 0755 root root -"
    ]
    ++ lib.optional (!usual) "d ${cfg.stateDir} 0700 root root -";
  };
}
