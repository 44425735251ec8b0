package tests

import (
	"os"
	"os/exec"
	"testing"

	"dbuild/internal/testenv"
)

// crossVar allows the check of another architecture, which compiles much of the
// standard library once.
const crossVar = "DBUILD_TEST_CROSS"

// TestCross vets what speaks to the kernel for a 32-bit machine; "make cross"
// builds everything for all architectures.
func TestCross(t *testing.T) {
	if os.Getenv(crossVar) != "1" {
		testenv.Skip(t, "cross", "set %s=1 to compile for another architecture", crossVar)
	}
	cmd := exec.CommandContext(t.Context(), "go", "vet", "./agent/...", "./engine/...", "./internal/...")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm", "GOARM=7")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("vet for arm: %v\n%s", err, out)
	}
}
