{
  description = "A stand-in for the flake of hyperhive: agents' systems without nixpkgs, for tests";

  outputs =
    { self }:
    {
      lib.agentSystem = import ./agent-system.nix { recipe = self.narHash; };
    };
}
