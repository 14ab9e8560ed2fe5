{
  nix.settings.experimental-features = [ "ca-derivations" ];
}
