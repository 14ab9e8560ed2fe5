# `nix build .#options`: every option as JSON, with types and defaults, made from the modules themselves.
{
  self,
  nixpkgs,
  pkgs,
}:

let
  inherit (nixpkgs) lib;
  examples = import ./examples.nix {
    inherit self nixpkgs;
    inherit (pkgs.stdenv.hostPlatform) system;
  };
  document =
    options:
    (pkgs.nixosOptionsDoc {
      inherit options;
      # Where the files lie in the store of whoever builds this is of no use to a reader.
      transformOptions =
        option: option // { declarations = map (file: lib.removePrefix "${self}/" (toString file)) option.declarations; };
    }).optionsJSON;
in
pkgs.linkFarm "hyperhive-options" {
  "host.json" = "${document { services.hyperhive = examples.host.options.services.hyperhive; }}/share/doc/nixos/options.json";
  "agent.json" = "${document { inherit (examples.agent.options) hyperhive; }}/share/doc/nixos/options.json";
}
