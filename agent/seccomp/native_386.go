package seccomp

func native() table { return table386 }
