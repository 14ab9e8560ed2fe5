{
  description = "A stand-in for the flake of hyperhive: agents' systems without nixpkgs, for tests";

  outputs =
    { self }:
    {
      # The programs for builds, which tests/system/host_hive.py adds.
      lib.agentSystem = import ./agent-system.nix {
        recipe = self.narHash;
        programs = ./programs;
      };
    };
}
