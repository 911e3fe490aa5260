/* Prints the layout of every structure of the ABI as this compiler has it, and the value of every constant, as JSON. */
#include "table.h"

#include <inttypes.h>
#include <stdio.h>

static void print_struct(const struct abi_struct *structure)
{
    printf("  \"%s\": {\"size\": %zu, \"alignment\": %zu, \"fields\": {\n", structure->name, structure->size,
           structure->alignment);
    for (size_t i = 0; i < structure->field_count; i++) {
        const struct abi_field *field = &structure->fields[i];
        printf("   \"%s\": {\"type\": \"%s\", \"offset\": %zu, \"size\": %zu}%s\n", field->name, field->type.spelling,
               field->offset, field->size, i + 1 < structure->field_count ? "," : "");
    }
    printf("  }}");
}

int main(void)
{
    printf("{\n \"structs\": {\n");
    for (size_t i = 0; i < abi_struct_count; i++) {
        print_struct(&abi_structs[i]);
        printf("%s\n", i + 1 < abi_struct_count ? "," : "");
    }
    printf(" },\n \"constants\": {\n");
    for (size_t i = 0; i < abi_constant_count; i++)
        printf("  \"%s\": %" PRId64 "%s\n", abi_constants[i].name, abi_constants[i].value,
               i + 1 < abi_constant_count ? "," : "");
    printf(" }\n}\n");
    return 0;
}
