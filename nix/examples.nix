# Systems like those that people have, to be evaluated by checks and tests: a host, an agent and the manager.
{
  self,
  nixpkgs,
  system,
}:

let
  inherit (nixpkgs) lib;
in
{
  host = lib.nixosSystem {
    modules = [
      self.nixosModules.default
      {
        nixpkgs.hostPlatform = system;
        boot.loader.grub.enable = false;
        fileSystems."/" = {
          device = "/dev/vda";
          fsType = "ext4";
        };
        system.stateVersion = "25.11";
        users.users.alice.isNormalUser = true;
        services.hyperhive = {
          enable = true;
          admins = [ "alice" ];
          environmentFiles = [ "/run/secrets/hyperhive" ];
          passEnvironment = [ "ANTHROPIC_API_KEY" ];
          manager = {
            enable = true;
            settings.backend = "claude";
            settings.allowed_hosts = [ "anthropic" ];
            prompt = "Be brief.";
          };
          agents = {
            limits.memoryMax = "2G";
            ceilings.memoryMax = "8G";
          };
          approval.rules = [
            {
              name = "words only";
              when = "prompt_only";
            }
          ];
          relay = {
            providers.claude = {
              api = "anthropic";
              keys = [ "anthropic" ];
            };
            credentials.anthropic = "/run/secrets/anthropic";
          };
          dashboard = {
            enable = true;
            origin = "https://hive.example.org";
            listen = "192.0.2.1:443";
            certificate = "/var/lib/acme/hive.example.org/fullchain.pem";
            key = "/var/lib/acme/hive.example.org/key.pem";
          };
          budget.agents.money_per_day = 10;
          settings.health_timeout = 120;
        };
      }
    ];
  };

  agent = self.lib.agentSystem {
    inherit system;
    name = "ada";
    kind = "agent";
    agent = ./tests/ada;
  };

  manager = self.lib.agentSystem {
    inherit system;
    name = "hm1nd";
    kind = "manager";
    agent = ./tests/hm1nd;
  };
}
