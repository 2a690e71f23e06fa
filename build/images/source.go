package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// source is what the programs are made from.
type source struct {
	revision string    // of git, with "-dirty" behind it when files differ from it; empty outside a checkout
	created  time.Time // of the revision; the time that everything made from it carries
}

// readSource asks git in folder. SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch) decides about the time if it is set.
func readSource(ctx context.Context, folder string) (source, error) {
	s := source{created: time.Unix(0, 0).UTC()}
	if out, err := git(ctx, folder, "log", "-1", "--format=%H %ct"); err == nil {
		revision, seconds, _ := strings.Cut(out, " ")
		if s.created, err = parseSeconds(seconds); err != nil {
			return source{}, fmt.Errorf("read the time of commit %s: %w", revision, err)
		}
		changed, err := git(ctx, folder, "status", "--porcelain", "--untracked-files=no")
		if err != nil {
			return source{}, fmt.Errorf("compare the files with commit %s: %w", revision, err)
		}
		if s.revision = revision; changed != "" {
			s.revision += "-dirty"
		}
	}
	if seconds := os.Getenv("SOURCE_DATE_EPOCH"); seconds != "" {
		created, err := parseSeconds(seconds)
		if err != nil {
			return source{}, fmt.Errorf("read SOURCE_DATE_EPOCH: %w", err)
		}
		s.created = created
	}
	return s, nil
}

func parseSeconds(s string) (time.Time, error) {
	seconds, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(seconds, 0).UTC(), err
}

func git(ctx context.Context, folder string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = folder
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}
