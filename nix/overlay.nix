# `pkgs.hyperhive`.
final: _: { hyperhive = final.callPackage ./package.nix { }; }
