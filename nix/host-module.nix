# `services.hyperhive`: a hive on this host. docs/nixos.md explains every option; a test holds the two together.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    types
    ;
  cfg = config.services.hyperhive;
  toml = pkgs.formats.toml { };

  bounds = {
    memoryMax = mkOption {
      type = types.nullOr (types.strMatching "[1-9][0-9]{0,8}[MG]");
      default = null;
      example = "4G";
      description = "Memory, in MiB (`M`) or GiB (`G`).";
    };
    diskMax = mkOption {
      type = types.nullOr (types.strMatching "[1-9][0-9]{0,8}[MG]");
      default = null;
      example = "20G";
      description = "All that an agent can write, in MiB (`M`) or GiB (`G`), where there are disk quotas.";
    };
    cpuQuota = mkOption {
      type = types.nullOr (types.ints.between 1 100000);
      default = null;
      example = 200;
      description = "Processor time, in percent of one core.";
    };
    tasksMax = mkOption {
      type = types.nullOr (types.ints.between 16 1000000);
      default = null;
      description = "Processes and threads.";
    };
    ioWeight = mkOption {
      type = types.nullOr (types.ints.between 1 10000);
      default = null;
      description = "Share of the disk beside others; 100 is everybody's.";
    };
  };
  decider = types.enum [
    "manager"
    "operator"
    "both"
  ];
in
{
  _class = "nixos";
  _file = ./host-module.nix;
  key = "hyperhive-host-module";

  imports = [
    ./host/settings.nix
    ./host/service.nix
    ./host/egress.nix
    ./host/relay.nix
    ./host/dashboard.nix
    ./host/mounts.nix
    ./host/manager.nix
    ./host/nix.nix
    (import ./host/store.nix { inherit self; })
    ./host/assertions.nix
  ];

  options.services.hyperhive = {
    enable = mkEnableOption "hyperhive: coding agents in containers of their own, and the gate for their changes";

    package = mkOption {
      type = types.package;
      # With the nixpkgs of hyperhive's own flake.lock, as what agents run is; without a flake, with the host's.
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.default or (pkgs.callPackage ./package.nix { });
      defaultText = literalExpression "hyperhive.packages.\${system}.default";
      description = "The daemon and its command line. What agents run comes from `flake`.";
    };

    flake = mkOption {
      type = types.str;
      default = "path:${self}";
      defaultText = literalExpression ''"path:''${hyperhive}"'';
      example = "github:example/hive";
      description = ''
        Flake that agents' systems are built with: its `lib.agentSystem` is called. By default the one that this module
        comes from, so an update of the host is an update of hyperhive for agents, too.
      '';
    };

    stateDir = mkOption {
      type = types.path;
      default = "/var/lib/hyperhive";
      description = "Directory that keeps the database, the repositories and every agent's files.";
    };

    group = mkOption {
      type = types.str;
      default = "hyperhive";
      description = "Group that may operate the hive (open `host.sock`). It is made if it is not there.";
    };

    admins = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "alice" ];
      description = "Users who are put into that group. Whoever operates the hive can become root.";
    };

    environmentFiles = mkOption {
      type = types.listOf types.path;
      default = [ ];
      example = [ "/run/secrets/hyperhive" ];
      description = ''
        Files with variables (`KEY=value` lines) for the daemon. Keep keys here, not in the settings: those are
        readable by everybody on the host.
      '';
    };

    passEnvironment = mkOption {
      type = types.listOf (types.strMatching "[A-Za-z_][A-Za-z0-9_]*");
      default = [ ];
      example = [ "ANTHROPIC_API_KEY" ];
      description = "Variables of the daemon that every agent gets.";
    };

    manager = {
      enable = mkEnableOption "the manager `hm1nd`, which is made at the daemon's first start";

      settings = mkOption {
        inherit (toml) type;
        default = { };
        example = {
          backend = "claude";
          allowed_hosts = [ "anthropic" ];
        };
        description = ''
          The manager's first `agent.toml`. Like the other two it is read only when the manager is made: later its
          configuration changes through the gate, as that of every agent.
        '';
      };

      prompt = mkOption {
        type = types.nullOr types.lines;
        default = null;
        description = "The manager's first `prompt.md`, beside what every manager is told.";
      };

      nix = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = literalExpression "./hm1nd.nix";
        description = "File that becomes the manager's first `agent.nix`.";
      };
    };

    agents = {
      limits = bounds;
      ceilings = bounds;

      backends = mkOption {
        type = types.listOf (types.enum (lib.attrNames (import ./agent/backends.nix { inherit pkgs; }).programs));
        default = [ ];
        example = [ "claude" ];
        description = ''
          Backends of `agent.toml` whose CLIs are in the host's store, beside that of `manager.settings`. Agents are built
          without network, and no binary cache has Claude Code, which is not free software: naming it here allows it.
        '';
      };

      userNamespaces = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Run containers so that their root is nobody on the host. Without it, root in a container is root for
          everything that the container reaches; the Nix daemon, which trusts root, is hidden from it.
        '';
      };

      updates = mkOption {
        type = types.enum [
          "manual"
          "auto"
        ];
        default = "manual";
        description = ''
          Whether agents that were built with an older hyperhive are rebuilt when somebody asks for it, or by
          themselves, a few at a time.
        '';
      };
    };

    approval = {
      config = mkOption {
        type = decider;
        default = "manager";
        description = "Who approves what an agent proposes for itself; `both` is first the manager, then the operator.";
      };
      managerConfig = mkOption {
        type = decider;
        default = "operator";
        description = "Who approves proposals of the manager, and those about it.";
      };
      spawn = mkOption {
        type = decider;
        default = "operator";
        description = "Who approves a new agent that the manager asks for.";
      };
      destroy = mkOption {
        type = decider;
        default = "operator";
        description = "Who approves the end of an agent that the manager asks for.";
      };
      network = mkOption {
        type = types.enum [
          "manager"
          "operator"
        ];
        default = "operator";
        description = "Who decides on an agent's request to reach a host for a time.";
      };
      rules = mkOption {
        type = types.listOf toml.type;
        default = [ ];
        example = [
          {
            name = "words only";
            when = "prompt_only";
          }
        ];
        description = "Rules that approve before anybody is asked.";
      };
    };

    egress = {
      allow = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [
          "nix-cache"
          "github.com:22"
        ];
        description = "Hosts that every sealed agent reaches: `host[:port]`, `*.host`, and names of sets.";
      };
      deny = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Hosts that no agent reaches, whatever else allows them.";
      };
      encryptedHello = mkOption {
        type = types.bool;
        default = false;
        description = "Whether TLS connections may hide the name of their host.";
      };
      limits = mkOption {
        type = types.submodule { freeformType = toml.type; };
        default = { };
        example = {
          connections = 64;
        };
        description = "Limits of the connections of each agent, by their names in the settings file.";
      };
    };

    services = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        postgres = "127.0.0.1:5432";
      };
      description = "Services of the host that agents may ask for by name in `agent.toml`: `HOST:PORT`.";
    };

    relay = {
      providers = mkOption {
        type = types.attrsOf (types.submodule { freeformType = toml.type; });
        default = { };
        example = {
          claude = {
            api = "anthropic";
            keys = [ "anthropic" ];
          };
        };
        description = "Providers of models that agents may use through the relay, by name, as in the settings file.";
      };
      credentials = mkOption {
        type = types.attrsOf types.str;
        default = { };
        example = {
          anthropic = "/run/secrets/anthropic";
        };
        description = "Files with the keys of providers, by the names in `keys`; systemd gives them to the relay alone.";
      };
    };

    dashboard = {
      enable = mkEnableOption "the web pages of the hive";
      origin = mkOption {
        type = types.str;
        default = "http://hive.localhost:7000";
        example = "https://hive.example.org";
        description = "Scheme, host and port by which browsers reach the web pages.";
      };
      listen = mkOption {
        type = types.str;
        default = "127.0.0.1:7000";
        example = "/run/hyperhive-dashboard.sock";
        description = "Where they are served: `ADDRESS:PORT`, or the path of a unix socket for a proxy.";
      };
      proxyGroup = mkOption {
        type = types.str;
        default = "root";
        example = "nginx";
        description = "Group of the proxy, which may connect to that unix socket.";
      };
      certificate = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/var/lib/acme/hive.example.org/fullchain.pem";
        description = "File with the certificate and its chain, to serve TLS without a proxy.";
      };
      key = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/var/lib/acme/hive.example.org/key.pem";
        description = "File with the key of that certificate; systemd gives it to the dashboard alone.";
      };
    };

    budget = {
      agents = mkOption {
        type = types.submodule { freeformType = toml.type; };
        default = { };
        example = {
          money_per_day = 10;
        };
        description = "Limits of what agents spend on models whose `agent.toml` sets none.";
      };
      ceilings = mkOption {
        type = types.submodule { freeformType = toml.type; };
        default = { };
        description = "Limits that no `agent.toml` may exceed.";
      };
      hive = mkOption {
        type = types.submodule { freeformType = toml.type; };
        default = { };
        example = {
          money_per_day = 50;
        };
        description = "Limits of what all agents spend together.";
      };
    };

    settings = mkOption {
      type = types.submodule { freeformType = toml.type; };
      default = { };
      example = {
        health_timeout = 120;
      };
      description = ''
        Any other setting of the daemon, by its name in the settings file. The file is checked by the daemon itself when
        the system is built.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    users.groups.${cfg.group}.members = cfg.admins;

    # On by default only where a container is declared, and agents are not.
    boot.enableContainers = true;
    # Added to what the host says: `nix.settings` cannot merge a list with a string, and both are usual there.
    nix.extraOptions = "extra-experimental-features = nix-command flakes";
  };
}
