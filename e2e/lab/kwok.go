package lab

import (
	"bytes"
	"embed"
	"fmt"
	"os"
)

// Annotations that tell a simulated kubelet how a pod's containers behave.
const (
	// RunForAnnotation ends the containers that long after their start, such
	// as 3s; without it they run for ever, but a Job's end at once.
	RunForAnnotation = "lab.spillway.dev/run-for"
	// ExitCodeAnnotation is what they then end with; 0 if it is not set.
	ExitCodeAnnotation = "lab.spillway.dev/exit-code"
	// IgnoreSIGTERMAnnotation, with any value, lets a deleted pod's containers
	// run until the end of the grace period.
	IgnoreSIGTERMAnnotation = "lab.spillway.dev/ignore-sigterm"
)

// The stages are kwok's own (kustomize/stage of its module), but for those
// named lab-*, for the two conditions that leave pods to those, and for one
// that saves a second, useless delete of each pod. Without any, kwok does
// nothing.
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
