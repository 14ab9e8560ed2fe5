# A hive in a virtual machine, without a network: switched on by one option, an agent is made, changes itself, is
# approved, and is rolled back. What building its changed system takes is in the machine's store from the start.
{
  self,
  nixpkgs,
  system,
}:
{ lib, pkgs, ... }:

let
  ada =
    (self.lib.agentSystem {
      inherit system;
      name = "ada";
      kind = "agent";
      agent = ./gate;
    }).config;
in
{
  name = "hyperhive-gate";

  nodes.machine =
    { config, ... }:
    {
      imports = [ self.nixosModules.default ];

      services.hyperhive = {
        enable = true;
        admins = [ "alice" ];
        agents = {
          limits.memoryMax = "512M";
          ceilings.memoryMax = "1G";
        };
        approval.config = "operator";
      };
      users.users.alice.isNormalUser = true;

      nix.settings = {
        substituters = lib.mkForce [ ];
        hashed-mirrors = null;
        connect-timeout = 1;
      };
      virtualisation = {
        cores = 2;
        memorySize = 4096;
        diskSize = 8192;
        writableStore = true;
        additionalPaths = [
          # The flake and what it is evaluated with.
          self.outPath
          nixpkgs.outPath
          # The system as it is first, and what is needed to build one that differs a little.
          ada.system.build.toplevel
          ada.system.build.toplevel.inputDerivation
          ada.system.build.etc.inputDerivation
          ada.system.path.inputDerivation
          ada.systemd.units."hive-harness.service".unit.inputDerivation
          pkgs.hello
          pkgs.stdenv
          pkgs.stdenvNoCC
          config.services.hyperhive.package
        ];
      };
    };

  testScript = ''
    import json


    def hive(command: str) -> dict:
        return json.loads(machine.succeed(f"hive-c0re {command} --json"))


    machine.start()
    with subtest("the daemon is up, with the settings of the module"):
        machine.wait_for_unit("hive-c0re.service")
        status = hive("status")
        assert status["runtime"] == "nixos", status
        machine.succeed("su alice -c 'hive-c0re status'")
        machine.fail("su nobody -s /bin/sh -c 'hive-c0re status'")

    with subtest("an agent is made and answers"):
        machine.succeed("hive-c0re spawn ada --config-dir ${./gate} --timeout 600 >&2", timeout=1200)
        machine.succeed("systemctl is-active container@h-ada.service")
        assert "ada heard: hello" in machine.succeed("hive-c0re ask ada hello --timeout 120")
        limit = machine.succeed("systemctl show -P MemoryMax container@h-ada.service").strip()
        assert limit == str(512 * 1024 * 1024), limit

    with subtest("root in the container is nobody on the host, and does not see the host's sockets"):
        machine.succeed("nixos-container run h-ada -- test ! -e /run/hyperhive")
        machine.succeed("nixos-container run h-ada -- touch /state/mine")
        machine.fail("nixos-container run h-ada -- touch /run/hive/environment")
        leader = machine.succeed("machinectl show h-ada -P Leader").strip()
        assert machine.succeed(f"stat -c %u /proc/{leader}").strip() != "0"

    with subtest("containers outlive the daemon"):
        before = machine.succeed("machinectl show h-ada -P Leader")
        machine.succeed("systemctl restart hive-c0re.service")
        machine.wait_for_unit("hive-c0re.service")
        assert machine.succeed("machinectl show h-ada -P Leader") == before
        assert "ada heard: again" in machine.succeed("hive-c0re ask ada again --timeout 120")

    with subtest("what the agent proposes is built, waits, and is deployed when it is approved"):
        machine.fail("nixos-container run h-ada -- hello")
        machine.succeed("hive-c0re send ada 'install hello'")
        machine.wait_until_succeeds("hive-c0re proposals --agent ada --json | grep '\"built\"'", timeout=1200)
        machine.fail("nixos-container run h-ada -- hello")
        machine.succeed("hive-c0re approve ada 1 --note 'friendly' >&2", timeout=600)
        machine.succeed("nixos-container run h-ada -- hello")
        assert "ada heard: still there" in machine.succeed("hive-c0re ask ada 'still there' --timeout 120")
        machine.succeed("nixos-container run h-ada -- test -e /state/mine")

    with subtest("a rollback needs no build and no network"):
        machine.succeed("hive-c0re rollback ada --note 'back' >&2", timeout=600)
        machine.fail("nixos-container run h-ada -- hello")
        assert "ada heard: as before" in machine.succeed("hive-c0re ask ada 'as before' --timeout 120")

    with subtest("the records agree"):
        machine.succeed("hive-c0re audit verify")
        assert len(hive("history ada")["deployments"]) == 3
  '';
}
