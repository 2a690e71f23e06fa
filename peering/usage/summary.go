package usage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// podStats is what a kubelet says of one pod, less the indentation, which is half of it.
type podStats struct {
	namespace string
	raw       []byte
}

// readSummary keeps the pods of the wanted namespaces of a kubelet's /stats/summary, and nothing about the node.
func readSummary(from io.Reader, wanted map[string]bool) ([]podStats, error) {
	var summary struct {
		Pods []json.RawMessage `json:"pods"`
	}
	if err := json.NewDecoder(from).Decode(&summary); err != nil {
		return nil, fmt.Errorf("read summary: %w", err)
	}
	var kept []podStats
	for _, raw := range summary.Pods {
		namespace, err := podNamespace(raw)
		if err != nil {
			return nil, fmt.Errorf("read summary: %w", err)
		}
		if !wanted[namespace] {
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			return nil, fmt.Errorf("read summary: %w", err)
		}
		kept = append(kept, podStats{namespace: namespace, raw: bytes.Clone(compact.Bytes())})
	}
	return kept, nil
}

// podNamespace reads podRef.namespace, and no further: kubelets write podRef first, and it is the smallest part.
func podNamespace(raw json.RawMessage) (string, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return "", err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		if key == "podRef" {
			var ref statsv1alpha1.PodReference
			err := d.Decode(&ref)
			return ref.Namespace, err
		}
		var skipped json.RawMessage
		if err := d.Decode(&skipped); err != nil {
			return "", err
		}
	}
	return "", nil
}

// writeSummary writes a Summary of the nodes' pods in some namespaces. It says nothing about nodes.
func writeSummary(w io.Writer, nodes [][]podStats, namespaces map[string]bool) error {
	head, err := json.Marshal(statsv1alpha1.NodeStats{})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, `{"node":%s,"pods":[`, head); err != nil {
		return err
	}
	separator := ""
	for _, pods := range nodes {
		for _, pod := range pods {
			if !namespaces[pod.namespace] {
				continue
			}
			if _, err := io.WriteString(w, separator); err != nil {
				return err
			}
			if _, err := w.Write(pod.raw); err != nil {
				return err
			}
			separator = ","
		}
	}
	_, err = io.WriteString(w, "]}\n")
	return err
}
