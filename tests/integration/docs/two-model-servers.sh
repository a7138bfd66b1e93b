# Two model servers on machines of their own, with the models that pages have there. Each doubles its input.
python - <<'END'
from pathlib import Path

from tests.integration.node.cache_node import write_onnx

for node, names in (("a", ("resnet", "mobilenet")), ("b", ("resnet", "ranker"))):
    for name in names:
        write_onnx(Path("servers", node), name)
END
tbms model-server --repository servers/a --host 10.0.0.3 > servers/a.log 2>&1 &
tbms model-server --repository servers/b --host 10.0.0.4 > servers/b.log 2>&1 &
for host in 10.0.0.3 10.0.0.4; do
  until curl -sf $host:8501/v2/health/ready; do sleep 0.2; done
done
