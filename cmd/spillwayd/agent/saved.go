package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spillway-dev/spillway/peering/view"
)

// load reads the last Snapshot that an earlier process kept; false when there is none.
func load(file string) (view.Snapshot, bool, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return view.Snapshot{}, false, nil
	}
	if err != nil {
		return view.Snapshot{}, false, fmt.Errorf("read what was known last: %w", err)
	}
	var s view.Snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return view.Snapshot{}, false, fmt.Errorf("read what was known last from %s: %w", file, err)
	}
	return s, true, nil
}

// save keeps a Snapshot for a start without an API server. It holds private keys: only root may read it.
func save(file string, s view.Snapshot) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("keep what is known: %w", err)
	}
	next := file + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return fmt.Errorf("keep what is known: %w", err)
	}
	if err := os.Rename(next, file); err != nil {
		return fmt.Errorf("keep what is known: %w", err)
	}
	return nil
}
