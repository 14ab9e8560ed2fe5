{
  buildPythonPackage,
  fetchPypi,
  setuptools,
  tree-sitter,
  wheel,
}:

buildPythonPackage rec {
  pname = "tree-sitter-nix";
  version = "0.1.0";
  pyproject = true;
  src = fetchPypi {
    inherit version;
    pname = "tree_sitter_nix";
    hash = "sha256-tVH9APu6yS8wD6lB88QbZh8pDBQVWd4PaQ1VCdmsPLA=";
  };
  build-system = [
    setuptools
    wheel
  ];
  dependencies = [ tree-sitter ];
  pythonImportsCheck = [ "tree_sitter_nix" ];
}
