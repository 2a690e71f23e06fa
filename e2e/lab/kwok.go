package lab

import (
	"bytes"
	"embed"
	"fmt"
	"os"
)

// The stages are kwok's own (kustomize/stage of its module): without any, kwok
// does nothing.
//
//go:embed stages/*.yaml
var stages embed.FS

// kwokOptions: enough workers that the simulated kubelets are never what a
// benchmark waits for (the default is 4), and a kubelet's lease duration.
const kwokOptions = `apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options:
  nodeLeaseDurationSeconds: 40
  nodeLeaseParallelism: 8
  nodePlayStageParallelism: 8
  podPlayStageParallelism: 16
  podsOnNodeSyncParallelism: 4
`

func (l layout) writeKwokConfig() error {
	var b bytes.Buffer
	b.WriteString(kwokOptions)
	entries, err := stages.ReadDir("stages")
	if err != nil {
		return fmt.Errorf("read the stages for kwok: %w", err)
	}
	for _, e := range entries {
		data, err := stages.ReadFile("stages/" + e.Name())
		if err != nil {
			return fmt.Errorf("read the stages for kwok: %w", err)
		}
		b.WriteString("---\n")
		b.Write(data)
	}
	return os.WriteFile(l.file("kwok.yaml"), b.Bytes(), 0o600)
}
