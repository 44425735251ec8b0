package fake_test

import (
	"testing"

	"dbuild/engine"
	"dbuild/engine/enginetest"
	"dbuild/engine/enginetest/fake"
)

func TestEngine(t *testing.T) {
	enginetest.RunStore(t, func(*testing.T) engine.Engine { return fake.New(fake.Options{}) })
}
