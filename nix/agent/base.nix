# What every agent's container is, whoever the agent.
{
  config,
  lib,
  options,
  pkgs,
  hive,
  ...
}:

let
  # For timers and watchers of the agent: `hive-ag3nt wake`. Nothing else of the package, and none of its Python.
  hiveAgent = pkgs.runCommand "hive-ag3nt" { } ''
    mkdir -p $out/bin
    ln -s ${lib.getExe' config.hyperhive.package "hive-ag3nt"} $out/bin/
  '';
in
{
  config = lib.mkMerge [
    # Since 25.11 there is an option for just this kind of container; before, only the wider one.
    (
      if options.boot ? isNspawnContainer then
        { boot.isNspawnContainer = true; }
      else
        { boot.isContainer = true; }
    )
    {
      networking = {
        hostName = hive.container;
        useDHCP = false;
        useHostResolvConf = lib.mkOverride 900 false;
        # The network is the host's, or none at all. Either way there are no rules for the container to set.
        firewall.enable = lib.mkDefault false;
      };
      system.stateVersion = lib.mkDefault "25.11";

      # A sealed agent reaches hosts through the proxy only, which the variables of its turns name for other programs. Its
      # door is there while it is sealed.
      programs.ssh.extraConfig = ''
        Match host *,!localhost,!127.0.0.1,!::1 exec "test -S /run/hive/world.sock"
          ProxyCommand ${hiveAgent}/bin/hive-ag3nt connect %h %p
        Host *
      '';

      # Nobody logs in: an agent is operated with messages, and its console is its log.
      # NixOS has a default of its own for containers, over which this one wins, and not over what an agent.nix says.
      systemd.services.console-getty.enable = lib.mkOverride 900 false;
      documentation.enable = lib.mkDefault false;

      # Added to what an agent.nix says: `nix.settings` cannot merge a list with a string, and both are usual there.
      nix.extraOptions = "extra-experimental-features = nix-command flakes";

      environment = {
        systemPackages = [
          pkgs.curl
          pkgs.git
          pkgs.jq
          hiveAgent
        ]
        ++ config.hyperhive.packages
        ++ lib.optional (config.hyperhive.backend.package != null) config.hyperhive.backend.package;

        # Which hyperhive made it: the daemon compares it with the one that it would build with now. The files of the
        # configuration are no part of the system: a change of those that it does not use gives the same system, and the
        # gate's rules rely on that. The daemon shows them to the container as /deployed.
        etc = lib.mkMerge [
          # For sftp and scp of people who step into the agent over ssh. OpenSSH is part of every NixOS.
          { "hyperhive/sftp-server".source = "${pkgs.openssh}/libexec/sftp-server"; }
          (lib.optionalAttrs (hive.recipe != null) { "hyperhive/recipe".text = hive.recipe; })
          # The daemon keeps it like the host's: the copy that a container usually gets is that of its start. NixOS then
          # does without resolvconf. An agent.nix with a resolver or name servers of its own has its own file.
          (lib.mkIf (!config.services.resolved.enable && config.networking.nameservers == [ ]) {
            "resolv.conf".source = lib.mkDefault "/run/hive-dns/resolv.conf";
          })
        ];
      };
    }
  ];
}
