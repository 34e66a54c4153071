/* castor report: report.html from a run's folder. */
#include "cli/cli.h"
#include "train/report.h"

cst_status cst_cmd_report(const cst_args *a)
{
    if (!a->operand) return cst_fail(CST_USAGE, "castor report needs a DIR, where a run has left metrics.jsonl");
    CST_TRY(cst_report_write(a->operand));
    if (!cst_args_flag(a, CST_OPTION_QUIET)) printf("%s/report.html\n", a->operand);
    return CST_OK;
}
