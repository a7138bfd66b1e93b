# A store with one model, in Triton's layout.
python - <<'END'
from pathlib import Path

from integration.peers.triton import write_model

write_model(Path("store"), "double")
END
